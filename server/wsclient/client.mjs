// Runs the stock graphql-ws client for the server's tests: node client.mjs URL TOKEN [TOKEN after a refusal]
// A line on standard input is an operation to begin, {"id": "a", "query": "…"}, or to end, {"dispose": "a"}. Each line on standard
// output is something that the client was told. Everything is as the client has it by default but the waits between retries.
import { createInterface } from 'node:readline';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';

const [url, ...tokens] = process.argv.slice(2);
const tell = (what) => console.log(JSON.stringify(what));

const client = createClient({
  url,
  webSocketImpl: WebSocket,
  lazy: false,
  onNonLazyError: (event) => tell({ event: 'gave up', code: event.code }),
  connectionParams: () => ({ authorization: `Bearer ${tokens.length > 1 ? tokens.shift() : tokens[0]}` }),
  retryWait: () => new Promise((resolve) => setTimeout(resolve, 50)),
  on: {
    connected: () => tell({ event: 'connected' }),
    closed: (event) => tell({ event: 'closed', code: event.code, reason: event.reason }),
  },
});

const disposers = {};

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { id, query, variables, dispose } = JSON.parse(line);
    if (dispose) {
      disposers[dispose]();
      return;
    }
    disposers[id] = client.subscribe({ query, variables }, {
      next: (result) => tell({ id, next: result }),
      error: (error) => tell({ id, error: Array.isArray(error) ? error : { code: error.code } }),
      complete: () => tell({ id, complete: true }),
    });
  })
  .on('close', () => process.exit(0));
