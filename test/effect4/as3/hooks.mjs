import { fileURLToPath, pathToFileURL } from "node:url"
import { asEffect3 } from "./resolve.mjs"

export const resolve = (specifier, context, next) => {
  const { parentURL = "" } = context
  const importer = parentURL.startsWith("file:") ? fileURLToPath(parentURL) : ""
  const found = asEffect3(specifier, importer) ?? specifier
  return next(found.startsWith("/") ? pathToFileURL(found).href : found, context)
}
