/** Runs one of several callbacks: if it throws, that is reported, and the others are called as well. */
export const isolated = <A>(callback: (value: A) => void, value: A): void => {
  try {
    callback(value)
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}
