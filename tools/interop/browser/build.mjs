// Bundles js-libp2p with the page, into one file for browsers: node build.mjs SOURCE TARGET.

import { build } from 'esbuild'

const [source, target] = process.argv.slice(2)
await build({
  entryPoints: [source],
  outfile: target,
  bundle: true,
  format: 'esm',
  // Served by testkit/page.py.
  external: ['/caller.mjs'],
  // Browsers of the last two years.
  target: ['chrome120', 'firefox125'],
  logLevel: 'warning'
})
