// Code of both ends: names of protocols, lines for the runner, and reading and writing of streams with
// back-pressure.

import { createHash } from 'node:crypto'
import { writeSync } from 'node:fs'

export const [ECHO, SINK, SOURCE, RESET, CLOSE, WATCH, NOTE, STOP, BACK] =
  ['echo', 'sink', 'source', 'reset', 'close', 'watch', 'note', 'stop', 'back'].map(name => `/libp2p-quic/${name}/1.0.0`)
export const PERF = '/perf/1.0.0'

/** One line for the runner. */
export function tell (said) {
  writeSync(1, JSON.stringify(said) + '\n')
}

export async function write (stream, data) {
  if (!stream.send(data)) {
    await stream.onDrain()
  }
}

/** Writes that many bytes, which repeat with the prime 251; their SHA-256. */
export async function pump (stream, size) {
  const block = Uint8Array.from({ length: 251 * 256 }, (_, i) => i % 251)
  const digest = createHash('sha256')
  while (size > 0) {
    const data = block.subarray(0, size)
    digest.update(data)
    await write(stream, data)
    size -= data.length
  }
  return digest.digest()
}

/** Reads of a wanted length from a stream that gives chunks. */
export class Reader {
  #chunks
  #unread = Buffer.alloc(0)

  constructor (stream) {
    this.#chunks = stream[Symbol.asyncIterator]()
  }

  /** The next piece, at most `n` bytes; undefined at the end. */
  async upTo (n) {
    while (this.#unread.length === 0) {
      const { value, done } = await this.#chunks.next()
      if (done) {
        return undefined
      }
      this.#unread = Buffer.from(value.subarray())
    }
    const data = this.#unread.subarray(0, n)
    this.#unread = this.#unread.subarray(n)
    return data
  }

  async exactly (n) {
    const parts = []
    while (n > 0) {
      const data = await this.upTo(n)
      if (data == null) {
        throw new Error(`the stream ended ${n} bytes early`)
      }
      parts.push(data)
      n -= data.length
    }
    return Buffer.concat(parts)
  }

  async rest () {
    const parts = []
    for (let data = await this.upTo(Infinity); data != null; data = await this.upTo(Infinity)) {
      parts.push(data)
    }
    return Buffer.concat(parts)
  }
}
