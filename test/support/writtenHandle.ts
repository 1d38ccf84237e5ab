/** A handle as a process has written it: those on Effect 3 and those on Effect 4 read each other's. */
export const writtenHandle =
  '{"version":1,"key":"invoice:42","kind":"lock","token":"erl1:4bjhsmXGpZfO.XRwnBlu1J1NBZo8dhFA06Q","fencingToken":1795985071728000,"share":1,"limit":1,"ttl":30000,"maxHold":3600000,"holdAtLeast":1000,"store":"this process\'s memory, erl1:4bjhsmXGpZfO","seal":"Dro4z2FdcN_T2YqDyfAi5A"}'
