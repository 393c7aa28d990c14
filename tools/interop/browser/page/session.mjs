// The WebTransport session below js-libp2p's connection, which js-libp2p does not show. This module is imported
// before js-libp2p, which takes the class when it is loaded.

const Native = globalThis.WebTransport

/** The session that was made last. */
export let session

globalThis.WebTransport = class extends Native {
  constructor (...args) {
    super(...args)
    session = this
    // js-libp2p handles both, too; a refused session must not be an unhandled rejection here.
    this.closed.catch(() => {})
    this.ready.catch(() => {})
  }
}

/** A stream of the session without js-libp2p, after multistream-select. */
export async function openBare (protocol) {
  const { readable, writable } = await session.createBidirectionalStream()
  const reader = new BareReader(readable.getReader())
  const writer = writable.getWriter()
  writer.closed.catch(() => {})
  const lines = new Uint8Array([...line('/multistream/1.0.0'), ...line(protocol)])
  await writer.write(lines)
  const agreed = await reader.exactly(lines.length)
  if (!agreed.every((byte, i) => byte === lines[i])) {
    throw new Error(`the node does not speak ${protocol}`)
  }
  return { reader, writer }
}

function line (text) {
  const bytes = new TextEncoder().encode(text + '\n')
  return [bytes.length, ...bytes]
}

class BareReader {
  #reader
  #unread = new Uint8Array()

  constructor (reader) {
    this.#reader = reader
  }

  /** The next bytes; undefined at the end. */
  async some () {
    if (this.#unread.length > 0) {
      const data = this.#unread
      this.#unread = new Uint8Array()
      return data
    }
    const { value, done } = await this.#reader.read()
    return done ? undefined : value
  }

  async exactly (size) {
    const data = new Uint8Array(size)
    for (let filled = 0; filled < size;) {
      const some = await this.some()
      if (some == null) {
        throw new Error(`the stream ended ${size - filled} bytes early`)
      }
      const taken = some.subarray(0, size - filled)
      data.set(taken, filled)
      filled += taken.length
      this.#unread = some.subarray(taken.length)
    }
    return data
  }
}
