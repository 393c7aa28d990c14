// The page's side of testkit/page.py: asks for each call, runs the function of that name, sends its result.

export async function serve (functions) {
  for (;;) {
    const call = await (await fetch('/next-call')).json()
    if (call == null) {
      continue
    }
    const answer = { id: call.id }
    try {
      answer.result = await functions[call.name](...call.arguments) ?? null
    } catch (error) {
      answer.error = reason(error)
    }
    await fetch('/answer', { method: 'POST', body: JSON.stringify(answer) })
  }
}

/** The error with its causes, in one line. */
function reason (error) {
  const parts = [`${error?.name}: ${error?.message}`]
  for (const cause of [...error?.errors ?? [], error?.cause]) {
    if (cause != null) {
      parts.push(reason(cause))
    }
  }
  return parts.join(' <- ')
}
