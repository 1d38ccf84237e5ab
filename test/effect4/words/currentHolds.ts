export { CurrentHolds as currentHolds } from "../../../src/internal/face4/holds.js"
