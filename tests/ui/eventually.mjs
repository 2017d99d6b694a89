import assert from 'node:assert/strict'

/** Waits until something holds, or fails after ten seconds. */
export async function eventually(what, holds) {
  const start = Date.now()
  while (!(await holds())) {
    assert.ok(Date.now() - start < 10_000, `never came true: ${what}`)
    await new Promise((done) => setTimeout(done, 50))
  }
}
