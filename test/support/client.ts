/**
 * Whether this is the run with the older ioredis: it repeats what depends on the client, and leaves out
 * what does not.
 */
export const isOlderClient = process.env.IOREDIS_MAJOR === "5"
