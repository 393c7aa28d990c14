// Reading and writing of js-libp2p's streams with back-pressure, and the pattern that both ends know.

export async function write (stream, data) {
  if (!stream.send(data)) {
    await stream.onDrain()
  }
}

/** That many bytes, which repeat with the prime 251, so that a lost block changes the sequence. */
export function pattern (size) {
  const data = new Uint8Array(size)
  for (let i = 0; i < size; i++) {
    data[i] = i % 251
  }
  return data
}

export function count (size) {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(size))
  return bytes
}

export async function sha256 (data) {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', data))
}

export function isSame (a, b) {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}

/** Everything up to the end of the stream. Call it before the peer can finish: js-libp2p does not
 * tell a later reader of the end. */
export async function rest (stream) {
  const parts = []
  let size = 0
  for await (const chunk of stream) {
    const part = chunk.subarray()
    parts.push(part)
    size += part.length
  }
  const data = new Uint8Array(size)
  let filled = 0
  for (const part of parts) {
    data.set(part, filled)
    filled += part.length
  }
  return data
}
