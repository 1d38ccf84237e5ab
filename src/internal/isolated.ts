/** Runs one of several callbacks: if it throws, that is reported, and the others are called as well. */
export const isolated = (callback: () => void): void => {
  try {
    callback()
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}
