// js-libp2p in the page: a node, its connection to the listener, and one function for each call of
// tools/interop/browser/cases.py.

import { openBare, session } from './session.mjs'
import { identify } from '@libp2p/identify'
import { webTransport } from '@libp2p/webtransport'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { serve } from '/caller.mjs'
import { count, isSame, pattern, rest, sha256, write } from './streams.mjs'

const PING = '/ipfs/ping/1.0.0'
const [ECHO, SINK, SOURCE, PROGRESS, RESET, CLOSE, WATCH, BACK] =
  ['echo', 'sink', 'source', 'progress', 'reset', 'close', 'watch', 'back'].map(name => `/libp2p-quic/${name}/1.0.0`)
const BLOCK = 65_536

const pause = ms => new Promise(resolve => setTimeout(resolve, ms))

const node = await createLibp2p({
  transports: [webTransport()],
  services: { identify: identify({ runOnConnectionOpen: false }) },
  // The addresses of the tests are of loopback, which browsers deny by default.
  connectionGater: { denyDialMultiaddr: () => false },
  connectionMonitor: { enabled: false }
})
await node.handle(PING, async stream => {
  for await (const chunk of stream) {
    await write(stream, chunk.subarray())
  }
  await stream.close()
})

let connection

const open = protocol => connection.newStream(protocol, { maxOutboundStreams: 1000 })

async function isEchoed (stream, size) {
  const data = crypto.getRandomValues(new Uint8Array(size))
  const answer = rest(stream)
  await write(stream, data)
  await stream.close()
  return isSame(data, await answer)
}

async function progress () {
  const stream = await open(PROGRESS)
  const answer = rest(stream)
  await write(stream, Uint8Array.of(0))
  return Number(new DataView((await answer).buffer).getBigUint64(0))
}

function secondsSince (began) {
  return (performance.now() - began) / 1000
}

serve({
  /** Dials; the peer ids of both ends. */
  async connect (address) {
    const began = performance.now()
    connection = await node.dial(multiaddr(address), { force: true })
    return { self: node.peerId.toString(), remote: connection.remotePeer.toString(), seconds: secondsSince(began) }
  },

  async identify () {
    const answer = await node.services.identify.identify(connection)
    return { agent: answer.agentVersion, peer: answer.peerId.toString(), protocols: answer.protocols }
  },

  async ping (rounds) {
    const stream = await open(PING)
    let wake
    let unread = []
    stream.addEventListener('message', ({ data }) => {
      unread.push(...data.subarray())
      wake?.()
    })
    const times = []
    for (let i = 0; i < rounds; i++) {
      const sent = crypto.getRandomValues(new Uint8Array(32))
      const began = performance.now()
      await write(stream, sent)
      while (unread.length < 32) {
        await new Promise(resolve => { wake = resolve })
      }
      if (!isSame(sent, unread.slice(0, 32))) {
        throw new Error('another answer than the bytes of the ping')
      }
      unread = unread.slice(32)
      times.push(performance.now() - began)
    }
    await stream.close()
    return { rounds, median: times.sort((a, b) => a - b)[rounds >> 1] }
  },

  /** Sends that much into a sink; whether it answers with the right sum. */
  async up (size) {
    const data = pattern(size)
    const sum = await sha256(data)
    const stream = await open(SINK)
    const began = performance.now()
    const answer = rest(stream)
    for (let start = 0; start < size; start += BLOCK) {
      await write(stream, data.subarray(start, start + BLOCK))
    }
    await stream.close()
    return { same: isSame(await answer, sum), seconds: secondsSince(began) }
  },

  /** Whether the source sends what it says that it sends. */
  async down (size) {
    const stream = await open(SOURCE)
    const began = performance.now()
    const answer = rest(stream)
    await write(stream, count(size))
    await stream.close()
    const data = await answer
    const seconds = secondsSince(began)
    return { bytes: data.length - 32, same: isSame(await sha256(data.subarray(0, size)), data.subarray(size)), seconds }
  },

  /** Opens all of them before the first is used. */
  async streams (wanted) {
    const opened = await Promise.all(Array.from({ length: wanted }, () => open(ECHO)))
    const same = await Promise.all(opened.map(stream => isEchoed(stream, 1024)))
    return { streams: same.length, same: same.filter(Boolean).length }
  },

  /** That many streams in sequence, in each of some tasks at once. */
  async sequence (tasks, each) {
    const one = async () => {
      let same = 0
      for (let i = 0; i < each; i++) {
        same += await isEchoed(await open(ECHO), 1024)
      }
      return same
    }
    const same = await Promise.all(Array.from({ length: tasks }, one))
    return same.reduce((a, b) => a + b)
  },

  /** Opens a stream to a node that has started again; when the session is over. */
  async lost () {
    const began = performance.now()
    open(PING).catch(() => {})
    await session.closed.catch(() => {})
    return secondsSince(began)
  },

  /** Nothing for that time. */
  async idle (wait) {
    await pause(wait)
    return connection.status
  },

  /** How a stream ends that the node resets: by js-libp2p, and by the session itself. */
  async reset () {
    const stream = await open(RESET)
    const end = rest(stream).then(() => stream.status, () => stream.status)
    await write(stream, Uint8Array.of(1))
    const status = await end
    const { reader, writer } = await openBare(RESET)
    await writer.write(Uint8Array.of(1))
    const [readError, writeError] = await Promise.all([
      reader.some().then(() => null, error => error),
      writer.closed.then(() => null, error => error)
    ])
    return { status, readCode: readError?.streamErrorCode ?? null, writeCode: writeError?.streamErrorCode ?? null }
  },

  /** Resets a stream by js-libp2p without a code, and one of the session with this code. */
  async abort (code) {
    const stream = await open(WATCH)
    const answered = new Promise(resolve => stream.addEventListener('message', resolve, { once: true }))
    await write(stream, Uint8Array.of(1))
    await answered
    stream.abort(new Error('asked for'))
    const { reader, writer } = await openBare(WATCH)
    await writer.write(Uint8Array.of(1))
    await reader.exactly(1)
    await writer.abort(new WebTransportError({ message: 'asked for', streamErrorCode: code }))
    return null
  },

  /** Asks the source, reads nothing for a time, and then everything; `written` is how much the node could
   * write in that time, which the node says on another stream meanwhile. */
  async slow (size, wait) {
    const { reader, writer } = await openBare(SOURCE)
    await writer.write(count(size))
    await writer.close()
    await pause(wait)
    const written = await progress()
    const data = await reader.exactly(size)
    return { written, same: isSame(await sha256(data), await reader.exactly(32)) }
  },

  /** A byte that makes the node close the connection; how the session ends. */
  async closed () {
    const stream = await open(CLOSE)
    rest(stream).catch(() => {})
    await write(stream, Uint8Array.of(1))
    const info = await session.closed
    return { code: info.closeCode, reason: info.reason, status: connection.status }
  },

  /** Leaves this page while a stream is open. */
  async leave () {
    const stream = await open(WATCH)
    const answered = new Promise(resolve => stream.addEventListener('message', resolve, { once: true }))
    await write(stream, Uint8Array.of(1))
    await answered
    // When the answer of this call is sent.
    setTimeout(() => location.replace('about:blank'), 100)
    return null
  },

  /** Lets the node open a stream to this page, and answers its ping there. */
  async back () {
    const stream = await open(BACK)
    const answer = rest(stream)
    await write(stream, Uint8Array.of(1))
    return { answer: (await answer)[0] }
  }
})
