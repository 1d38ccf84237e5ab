export const parallel = "parallel"
export const sequential = "sequential"
