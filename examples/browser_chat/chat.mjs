// The page of the chat: js-libp2p dials the node over WebTransport, and exchanges lines and files with it.

import { webTransport } from '@libp2p/webtransport'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const LINES = '/browser-chat/lines/1.0.0'
const FILE = '/browser-chat/file/1.0.0'
const BLOCK = 65_536

const element = id => document.getElementById(id)
const encode = text => new TextEncoder().encode(text)

function show (line) {
  const shown = document.createElement('div')
  shown.append(line)
  element('lines').append(shown)
}

async function write (stream, data) {
  // False: the buffers are full. Waiting is the back-pressure.
  if (!stream.send(data)) {
    await stream.onDrain()
  }
}

/** Calls `onLine` with the first line of a stream; the chunks after it, of which the first may be empty. */
async function * chunksAfterLine (stream, onLine) {
  let head = new Uint8Array()
  let isHead = true
  for await (const chunk of stream) {
    let data = chunk.subarray()
    if (isHead) {
      head = Uint8Array.from([...head, ...data])
      const end = head.indexOf(10)
      if (end < 0) {
        continue
      }
      onLine(new TextDecoder().decode(head.subarray(0, end)))
      data = head.subarray(end + 1)
      isHead = false
    }
    yield data
  }
}

const node = await createLibp2p({
  transports: [webTransport()],
  // A page may dial public addresses only; this node is on the same machine.
  connectionGater: { denyDialMultiaddr: () => false }
})

// The node passes on the file of another page.
await node.handle(FILE, async stream => {
  let head
  let left = Infinity
  const parts = []
  for await (const data of chunksAfterLine(stream, line => { head = JSON.parse(line); left = head.size })) {
    parts.push(data)
    left -= data.length
    // The size tells the end: js-libp2p loses an end that arrives before the stream is read.
    if (left <= 0) {
      break
    }
  }
  await stream.close()
  const link = document.createElement('a')
  link.download = head.name
  link.href = URL.createObjectURL(new Blob(parts))
  link.append(`${head.name}, ${head.size} bytes, from ${head.from}`)
  show(link)
})

let connection
let lines

element('form').addEventListener('submit', async event => {
  event.preventDefault()
  const text = element('text').value
  element('text').value = ''
  await write(lines, encode(text + '\n'))
  show(`you: ${text}`)
})

element('file').addEventListener('change', async () => {
  const file = element('file').files[0]
  const stream = await connection.newStream(FILE)
  await write(stream, encode(JSON.stringify({ name: file.name, size: file.size }) + '\n'))
  for (let start = 0; start < file.size; start += BLOCK) {
    await write(stream, new Uint8Array(await file.slice(start, start + BLOCK).arrayBuffer()))
  }
  await stream.close()
  show(`you sent ${file.name}`)
})

// Firefox keeps the session of a page that is left for some ten seconds, and then finishes its streams.
addEventListener('pagehide', () => connection?.close())

for (;;) {
  try {
    const address = await (await fetch('address')).text()
    connection = await node.dial(multiaddr(address), { force: true })
    lines = await connection.newStream(LINES)
    element('state').textContent = `connected as ${node.peerId.toString().slice(-6)}`
    const decoder = new TextDecoder()
    let unread = ''
    // js-libp2p does not tell that a session is over; its streams end.
    for await (const chunk of lines) {
      const parts = (unread + decoder.decode(chunk.subarray(), { stream: true })).split('\n')
      unread = parts.pop()
      parts.forEach(line => show(line))
    }
    element('state').textContent = 'the node has closed the connection'
  } catch (error) {
    element('state').textContent = `not connected: ${error.message}`
  }
  await new Promise(resolve => setTimeout(resolve, 2000))
}
