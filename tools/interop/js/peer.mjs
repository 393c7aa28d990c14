// The peer of js-libp2p. It has the command line of tools/interop/README.md and uses a plain node of the
// project. This file has the arguments, the keys and the listener; cases.mjs has the dialer.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { quic } from '@chainsafe/libp2p-quic'
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { cases, ping as pingRounds } from './cases.mjs'
import { BACK, CLOSE, ECHO, NOTE, PERF, Reader, RESET, SINK, SOURCE, STOP, WATCH, pump, tell, write } from './wire.mjs'

const KEYS = { ed25519: 'Ed25519', secp256k1: 'secp256k1', rsa: 'RSA' }

async function makeNode (options, listen) {
  const privateKey = options.seed != null
    ? await generateKeyPairFromSeed('Ed25519', Buffer.from(options.seed, 'hex'))
    : await generateKeyPair(KEYS[options.key])
  return createLibp2p({
    privateKey,
    addresses: { listen },
    transports: [quic()],
    services: { ping: ping(), identify: identify({ runOnConnectionOpen: false }) },
    // It would ping by itself every 10 s, which would disturb the case "idle".
    connectionMonitor: { enabled: false }
  })
}

const served = {
  async [ECHO] (stream) {
    for await (const chunk of stream) {
      await write(stream, chunk.subarray())
    }
    await stream.close()
  },

  async [SINK] (stream) {
    const digest = createHash('sha256')
    for await (const chunk of stream) {
      digest.update(chunk.subarray())
    }
    await write(stream, digest.digest())
    await stream.close()
  },

  async [SOURCE] (stream) {
    const size = (await new Reader(stream).exactly(8)).readBigUInt64BE()
    await write(stream, await pump(stream, Number(size)))
    await stream.close()
  },

  async [RESET] (stream) {
    await new Reader(stream).exactly(1)
    stream.abort(new Error('asked for'))
  },

  async [CLOSE] (stream, connection) {
    await new Reader(stream).exactly(1)
    connection.abort(new Error('asked for'))
  },

  async [WATCH] (stream, connection) {
    const peer = connection.remotePeer.toString()
    const reader = new Reader(stream)
    let how = 'finished'
    try {
      await write(stream, await reader.exactly(1))
      await reader.rest()
      // The iteration also ends after a reset; the status distinguishes them.
      how = ['reset', 'aborted'].includes(stream.status) || connection.status !== 'open' ? 'cut' : 'finished'
    } catch {
      how = 'cut'
    }
    tell({ event: 'end', peer, how, code: null })
    await stream.close()
  },

  async [NOTE] (stream, connection) {
    let bytes = 0
    for await (const chunk of stream) {
      bytes += chunk.length ?? chunk.byteLength
    }
    tell({ event: 'note', peer: connection.remotePeer.toString(), bytes })
    await stream.close()
  },

  async [STOP] (stream) {
    await write(stream, await new Reader(stream).exactly(1))
    await Promise.all([stream.close(), stream.closeRead()])
  },

  async [BACK] (stream, connection) {
    await new Reader(stream).exactly(1)
    await pingRounds(connection, 1)
    await write(stream, Buffer.of(1))
    await stream.close()
  },

  // js-libp2p has it in a separate package; this is the complete protocol.
  async [PERF] (stream) {
    const reader = new Reader(stream)
    const size = (await reader.exactly(8)).readBigUInt64BE()
    while (await reader.upTo(65_536) != null) {}
    await pump(stream, Number(size))
    await stream.close()
  }
}

async function listen (options) {
  const ip = options.ip === '6' ? '/ip6/::1' : '/ip4/127.0.0.1'
  const node = await makeNode(options, [`${ip}/udp/${options.port}/quic-v1`])
  for (const [protocol, serve] of Object.entries(served)) {
    await node.handle(protocol, async (stream, connection) => {
      try {
        await serve(stream, connection)
      } catch (error) {
        console.error(protocol, error)
        stream.abort(error)
      }
    }, { maxInboundStreams: 1000 })
  }
  node.addEventListener('connection:open', ({ detail }) => {
    tell({ event: 'connected', peer: detail.remotePeer.toString() })
  })
  tell({ peer: node.peerId.toString(), addrs: node.getMultiaddrs().map(String) })
  process.stdin.on('end', () => process.exit(0)).resume()
}

async function dial (options, address, name, ...more) {
  const node = await makeNode(options, name === 'listening' ? ['/ip4/127.0.0.1/udp/0/quic-v1'] : [])
  const said = { ok: true, self: node.peerId.toString() }
  try {
    const to = multiaddr(address)
    Object.assign(said, await cases[name](node, await node.dial(to), to, more))
  } catch (error) {
    Object.assign(said, { ok: false, error: `${error.name}: ${error.message}` })
  }
  tell(said)
  await node.stop()
  process.exit(0)
}

function about () {
  const version = name => JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version
  tell({
    program: `js-libp2p ${version('libp2p')}`,
    stack: `@chainsafe/libp2p-quic ${version('@chainsafe/libp2p-quic')} (quinn)`,
    keys: Object.keys(KEYS),
    can: ['reset', 'both roles', 'perf']
  })
}

// A late failure in the background is printed and does not end the case.
process.on('unhandledRejection', error => console.error('unhandled', error))

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    key: { type: 'string', default: 'ed25519' },
    seed: { type: 'string' },
    ip: { type: 'string', default: '4' },
    port: { type: 'string', default: '0' }
  }
})
const [command, ...args] = positionals
switch (command) {
  case 'about': about(); break
  case 'listen': await listen(values); break
  case 'dial': await dial(values, ...args); break
  default: throw new Error('about, listen, or dial ADDRESS CASE')
}
