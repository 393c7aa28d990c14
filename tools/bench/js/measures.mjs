// The dialer's side of each measure; names and options are those of tools/bench/README.md.

import { multiaddr } from '@multiformats/multiaddr'
import { PROTOCOL, drain, fill, now, numbers, usage } from './work.mjs'
import { Reader, write } from './wire.mjs'

const open = connection => connection.newStream(PROTOCOL, { maxOutboundStreams: 1000, negotiateFully: false })

async function readNumbers (reader, count) {
  const bytes = await reader.exactly(8 * count)
  return Array.from({ length: count }, (_, i) => Number(bytes.readBigUInt64BE(8 * i)))
}

/** CPU time here and there, memory here and there. */
async function census (connection) {
  const stream = await open(connection)
  await write(stream, Buffer.from('c'))
  const [cpu, memory] = await readNumbers(new Reader(stream), 2)
  await stream.close()
  const here = usage()
  return [here[0], cpu, here[1], memory]
}

/** Half of what many rounds took, and nearly all of it: microseconds. */
function latencies (times, began) {
  times.sort((a, b) => a - b)
  const at = part => times[Math.floor(times.length * part / 100)] / 1e3
  return { count: times.length, seconds: (now() - began) / 1e9, p50: at(50), p99: at(99) }
}

/** Runs `one` `count` times, `inflight` at once, or until the time limit. */
async function repeated ({ inflight = 1, count = 5000, limit = 6000 }, one) {
  const times = []
  const began = now()
  await Promise.all(Array.from({ length: inflight }, async () => {
    for (let i = 0; i < Math.floor(count / inflight) && now() - began < limit * 1e6; i++) {
      const start = now()
      await one()
      times.push(now() - start)
    }
  }))
  return latencies(times, began)
}

async function goodput (isUp, connections, { streams = 1, size = 2 ** 31, limit = 6000 }) {
  const done = await Promise.all(Array.from({ length: streams }, async (_, i) => {
    const stream = await open(connections[i % connections.length])
    const reader = new Reader(stream)
    const share = Math.floor(size / streams)
    if (isUp) {
      await write(stream, Buffer.from('u'))
      await fill(stream, share, limit)
      await stream.close()
      return readNumbers(reader, 3)
    }
    await write(stream, Buffer.concat([Buffer.from('d'), numbers(share, limit * 1e6)]))
    // At the time limit a sender may hold the bytes of many seconds.
    return drain(reader, limit)
  }))
  return {
    bytes: done.reduce((sum, each) => sum + each[0], 0),
    seconds: (Math.max(...done.map(each => each[2])) - Math.min(...done.map(each => each[1]))) / 1e9,
    rates: done.map(each => each[0] * 1e9 / Math.max(each[2] - each[1], 1))
  }
}

/** On each connection, a round trip on a stream that has made a tenth as many as there will be. */
async function warmed (connections, { count = 5000 }) {
  return Promise.all(connections.map(async connection => {
    const stream = await open(connection)
    const reader = new Reader(stream)
    await write(stream, Buffer.from('e'))
    const round = async () => {
      await write(stream, Buffer.from('x'))
      await reader.exactly(1)
    }
    for (let i = 0; i <= count / connections.length / 10; i++) {
      await round()
    }
    return round
  }))
}

async function ping (rounds, { count = 5000, limit = 6000 }) {
  const times = []
  const began = now()
  await Promise.all(rounds.map(async round => {
    for (let i = 0; i < Math.floor(count / rounds.length) && now() - began < limit * 1e6; i++) {
      const start = now()
      await round()
      times.push(now() - start)
    }
  }))
  return latencies(times, began)
}

async function request (connection) {
  const stream = await open(connection)
  const asked = Buffer.alloc(65)
  asked[0] = 'e'.charCodeAt(0)
  await write(stream, asked)
  await new Reader(stream).exactly(64)
  await stream.close()
}

async function idle (first, dial, { count = 1000 }) {
  const before = await census(first)
  const began = now()
  const held = []
  while (held.length < count) {
    held.push(...await Promise.all(Array.from({ length: Math.min(8, count - held.length) }, async () => {
      const connection = await dial()
      // Used once: its memory counts, too, and the listener has accepted it.
      await census(connection)
      return connection
    })))
  }
  const after = await census(first)
  return { count, seconds: (now() - began) / 1e9, each: [2, 3].map(side => (after[side] - before[side]) / count) }
}

export async function measured (node, address, what, options) {
  const to = multiaddr(address)
  // Without force, a second dial to the same peer returns the first connection.
  const dial = () => node.dial(to, { force: true })
  const first = await dial()
  const connections = [first]
  while (connections.length < (options.connections ?? 1)) {
    connections.push(await dial())
  }
  const rounds = what === 'ping' ? await warmed(connections, options) : []
  const before = await census(first)
  const measures = {
    up: () => goodput(true, connections, options),
    down: () => goodput(false, connections, options),
    ping: () => ping(rounds, options),
    requests: () => repeated(options, () => request(first)),
    handshakes: () => repeated(options, async () => (await dial()).close()),
    idle: () => idle(first, dial, options)
  }
  const said = await measures[what]()
  const after = await census(first)
  return { ...said, cpu: [0, 1].map(side => (after[side] - before[side]) / 1e9), rss: after.slice(2) }
}
