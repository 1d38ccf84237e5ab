export const asEffect3: (source: string, importer?: string) => string | undefined
