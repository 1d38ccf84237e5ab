import * as TestClock from "effect4/testing/TestClock"

export const TestContext = TestClock.layer()
