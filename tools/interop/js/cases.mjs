// The dialer's side of each case of tools/interop/README.md; each returns its facts.

import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import { multiaddr } from '@multiformats/multiaddr'
import { BACK, CLOSE, ECHO, NOTE, PERF, Reader, RESET, SINK, SOURCE, STOP, WATCH, pump, tell, write } from './wire.mjs'

const open = (connection, protocol) => connection.newStream(protocol, { maxOutboundStreams: 1000 })

export async function ping (connection, rounds) {
  const stream = await open(connection, '/ipfs/ping/1.0.0')
  const reader = new Reader(stream)
  for (let i = 0; i < rounds; i++) {
    const sent = randomBytes(32)
    await write(stream, sent)
    if (!sent.equals(await reader.exactly(32))) {
      throw new Error('another pong than its ping')
    }
  }
  await stream.close()
}

/** Writes random bytes, finishes, and concurrently reads the answer to its end. */
async function isEchoed (stream, size) {
  const data = randomBytes(size)
  const reading = new Reader(stream).rest()
  for (let start = 0; start < size; start += 65_536) {
    await write(stream, data.subarray(start, start + 65_536))
  }
  await stream.close()
  return data.equals(await reading)
}

function count (size) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(size))
  return bytes
}

/** Sends that much into a sink; whether the sum that comes back is right. */
async function isSunk (connection, size) {
  const stream = await open(connection, SINK)
  const heard = new Reader(stream).rest()
  const sent = await pump(stream, size)
  await stream.close()
  return sent.equals(await heard)
}

/** Whether the source sends what it says that it sends. Nothing is read for `wait` ms. */
async function isSourced (connection, size, wait) {
  const stream = await open(connection, SOURCE)
  const reader = new Reader(stream)
  if (wait > 0) {
    stream.pause()
  }
  await write(stream, count(size))
  await stream.close()
  await pause(wait)
  if (wait > 0) {
    stream.resume()
  }
  const digest = createHash('sha256')
  for (let left = size; left > 0;) {
    const data = await reader.upTo(left)
    if (data == null) {
      throw new Error(`the source ended ${left} bytes early`)
    }
    digest.update(data)
    left -= data.length
  }
  return digest.digest().equals(await reader.rest())
}

/** Opens a stream, writes a byte, and sees how reading ends. */
async function provoke (connection, protocol) {
  const stream = await open(connection, protocol)
  // Reading starts first: a reader that starts after the end waits for it forever.
  const end = new Reader(stream).rest().then(
    // The iteration also ends after a reset; the status distinguishes them.
    () => ['reset', 'aborted'].includes(stream.status) || connection.status !== 'open',
    () => true
  )
  await write(stream, Buffer.from('x'))
  return { stream, cut: await end }
}

/** A stream whose end the listener tells the runner about. */
async function watched (connection) {
  const stream = await open(connection, WATCH)
  await write(stream, Buffer.from('x'))
  await new Reader(stream).exactly(1)
  return stream
}

export const cases = {
  async handshake (node, connection) {
    await ping(connection, 1)
    return { remote: connection.remotePeer.toString() }
  },

  async ping (node, connection) {
    await ping(connection, 100)
    return { rounds: 100 }
  },

  async identify (node, connection) {
    const answer = await node.services.identify.identify(connection)
    return {
      agent: answer.agentVersion,
      protocols: answer.protocols,
      observed: answer.observedAddr?.toString() ?? null
    }
  },

  async echo (node, connection) {
    return { bytes: 1 << 20, same: await isEchoed(await open(connection, ECHO), 1 << 20) }
  },

  async streams (node, connection) {
    // All of them are open before the first one is used.
    const opened = await Promise.all(Array.from({ length: 100 }, () => open(connection, ECHO)))
    const same = await Promise.all(opened.map(stream => isEchoed(stream, 1024)))
    return { streams: same.length, same: same.filter(Boolean).length }
  },

  async bulk (node, connection) {
    const size = 64 << 20
    return { bytes: size, up: await isSunk(connection, size), down: await isSourced(connection, size, 0) }
  },

  async load (node, connection) {
    const beside = isSunk(connection, 16 << 20)
    let same = 0
    for (let i = 0; i < 300; i++) {
      same += await isEchoed(await open(connection, ECHO), 1024)
    }
    return { streams: 300, same, up: await beside }
  },

  async slow (node, connection) {
    const size = 16 << 20
    return { bytes: size, down: await isSourced(connection, size, 2000) }
  },

  async note (node, connection) {
    const stream = await open(connection, NOTE)
    const data = randomBytes(65_536)
    await write(stream, data)
    await Promise.all([stream.close(), stream.closeRead()])
    await ping(connection, 1)
    await pause(1000)
    return { bytes: data.length }
  },

  async stop (node, connection) {
    let answered = 0
    let closed = 0
    for (let i = 0; i < 1100; i++) {
      const stream = await open(connection, STOP)
      const came = new Reader(stream).rest()
      await write(stream, Buffer.from('x'))
      answered += (await came).toString() === 'x'
      try {
        await write(stream, Buffer.alloc(1024))
      } catch {
        // The peer has stopped reading, so this write may fail.
      }
      await stream.close()
      closed++
    }
    await ping(connection, 1)
    return { streams: 1100, answered, closed }
  },

  async early (node, connection, to) {
    for (let i = 0; i < 10; i++) {
      await connection.close()
      connection = await node.dial(to)
    }
    await ping(connection, 1)
    return { rounds: 10 }
  },

  async many (node, connection, to, more) {
    const met = await Promise.all(more.map(address => node.dial(multiaddr(address))))
    const all = [connection, ...met]
    await Promise.all(all.map(each => ping(each, 1)))
    return { remotes: all.map(each => each.remotePeer.toString()) }
  },

  async back (node, connection) {
    const stream = await open(connection, BACK)
    await write(stream, Buffer.from('x'))
    // The node answers the listener's ping concurrently.
    const answer = await new Reader(stream).rest()
    await stream.close()
    return { answer: answer[0] }
  },

  async listening (node, connection) {
    const { observed } = await cases.identify(node, connection)
    return { observed, addrs: node.getMultiaddrs().map(String) }
  },

  async perf (node, connection) {
    const size = 8 << 20
    const stream = await open(connection, PERF)
    const reader = new Reader(stream)
    await write(stream, count(size))
    await pump(stream, size)
    await stream.close()
    let received = 0
    for (let data = await reader.upTo(size); data != null; data = await reader.upTo(size)) {
      received += data.length
    }
    return { sent: size, received }
  },

  async reset (node, connection) {
    const { stream, cut } = await provoke(connection, RESET)
    // The listener sent STOP_SENDING, too, which may arrive after its reset.
    try {
      for (;;) {
        await write(stream, Buffer.alloc(1024))
        await pause(1)
      }
    } catch {}
    (await watched(connection)).abort(new Error('asked for'))
    // Shows that the connection outlives the reset.
    await ping(connection, 1)
    return { cut, read_code: null, write_code: null }
  },

  async close (node, connection, to) {
    const { cut } = await provoke(connection, CLOSE)
    connection.abort(new Error('over'))
    const again = await node.dial(to)
    await watched(again)
    again.abort(new Error('asked for'))
    return { cut, code: null }
  },

  async idle (node, connection) {
    await ping(connection, 1)
    await pause(35_000)
    await ping(connection, 1)
    return { seconds: 35 }
  },

  /** The runner kills the listener after "ready", starts it again and writes a line. */
  async restart (node, connection, to) {
    await ping(connection, 1)
    tell({ event: 'ready' })
    await once(process.stdin, 'data')
    const began = Date.now()
    for (let tries = 1; ; tries++) {
      try {
        const again = await node.dial(to, { force: true, signal: AbortSignal.timeout(5000) })
        await Promise.race([ping(again, 1), pause(5000).then(() => { throw new Error('no pong') })])
        return { seconds: Math.round((Date.now() - began) / 100) / 10, tries }
      } catch (error) {
        console.error('restart:', error)
        await pause(500)
      }
    }
  }
}
