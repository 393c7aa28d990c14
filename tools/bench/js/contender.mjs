// The contender js-libp2p: a node with its QUIC transport and no other services. It has the command line
// of tools/bench/README.md. This file has the arguments, the listener and the code of both ends;
// measures.mjs has the dialer. Reader, tell and write are tools/interop/js's.

import { quic } from '@chainsafe/libp2p-quic'
import { createLibp2p } from 'libp2p'
import { measured } from './measures.mjs'
import { PROTOCOL, drain, fill, numbers, usage } from './work.mjs'
import { Reader, tell, write } from './wire.mjs'

const makeNode = listen => createLibp2p({
  addresses: { listen },
  transports: [quic()],
  connectionMonitor: { enabled: false },
  connectionManager: { maxConnections: 20_000, inboundConnectionThreshold: 20_000, maxIncomingPendingConnections: 1_000 }
})

async function answer (stream) {
  const reader = new Reader(stream)
  switch (String(await reader.exactly(1))) {
    case 'u':
      await write(stream, numbers(...await drain(reader)))
      break
    case 'd': {
      const asked = await reader.exactly(16)
      await fill(stream, Number(asked.readBigUInt64BE(0)), Number(asked.readBigUInt64BE(8)) / 1e6)
      break
    }
    case 'e':
      for (let data = await reader.upTo(Infinity); data != null; data = await reader.upTo(Infinity)) {
        await write(stream, data)
      }
      break
    default:
      await write(stream, numbers(...usage()))
  }
  await stream.close()
}

async function serve () {
  const node = await makeNode(['/ip4/127.0.0.1/udp/0/quic-v1'])
  await node.handle(PROTOCOL, async stream => {
    try {
      await answer(stream)
    } catch (error) {
      // The dialer reports its own failures.
      stream.abort(error)
    }
  }, { maxInboundStreams: 1000 })
  tell({ address: String(node.getMultiaddrs()[0]) })
  process.stdin.on('end', () => process.exit(0)).resume()
}

async function dial (address, what, args) {
  const options = Object.fromEntries(args.map(arg => arg.split('=')).map(([name, value]) => [name, Number(value)]))
  const node = await makeNode([])
  tell(await measured(node, address, what, options))
  process.exit(0)
}

// A late failure in the background is printed and does not end the measure.
process.on('unhandledRejection', error => console.error('unhandled', error))

const [role, ...args] = process.argv.slice(2)
switch (role) {
  case 'serve': await serve(); break
  case 'dial': await dial(args[0], args[1], args.slice(2)); break
  default: throw new Error('serve, or dial ADDRESS MEASURE name=value...')
}
