// The code of both ends of a stream, and the resource usage of this process.

import { readFileSync } from 'node:fs'
import { write } from './wire.mjs'

export const PROTOCOL = '/libp2p-quic/bench/1.0.0'
const PIECE = 65_536

export const now = () => Number(process.hrtime.bigint())

/** Nanoseconds of CPU time of all threads, and resident bytes. */
export function usage () {
  const { user, system } = process.cpuUsage()
  return [(user + system) * 1000, Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[1]) * 4096]
}

export function numbers (...values) {
  const bytes = Buffer.alloc(8 * values.length)
  values.forEach((value, i) => bytes.writeBigUInt64BE(BigInt(value), 8 * i))
  return bytes
}

/** Reads to the end, or for `limit` ms. Returns the bytes and the times of the first and the last. */
export async function drain (reader, limit = Infinity) {
  let bytes = 0
  let began = 0
  let ended = 0
  for (let data = await reader.upTo(Infinity); data != null; data = await reader.upTo(Infinity)) {
    ended = now()
    began ||= ended
    bytes += data.length
    if (ended - began > limit * 1e6) {
      return [bytes, began, ended]
    }
  }
  return [bytes, began, now()]
}

/** Writes `size` bytes, or as many as it can in `limit` ms. */
export async function fill (stream, size, limit) {
  const end = now() + limit * 1e6
  const block = new Uint8Array(PIECE)
  for (; size > 0 && now() < end; size -= PIECE) {
    await write(stream, size >= PIECE ? block : block.subarray(0, size))
  }
}
