// Runs the stock graphql-sse client for the server's tests: node events.mjs URL TOKEN [TOKEN for the next connection …]
// It reads and writes the same lines as client.mjs. Everything is as the client has it by default but the waits between retries.
import { createInterface } from 'node:readline';
import { createClient } from 'graphql-sse';

const [url, ...tokens] = process.argv.slice(2);
const tell = (what) => console.log(JSON.stringify(what));

const client = createClient({
  url,
  headers: () => ({ authorization: `Bearer ${tokens.length > 1 ? tokens.shift() : tokens[0]}` }),
  retry: () => new Promise((resolve) => setTimeout(resolve, 50)),
  retryAttempts: 100,
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
      error: (error) => tell({ id, error: error.message }),
      complete: () => tell({ id, complete: true }),
    }, { connecting: (again) => again && tell({ id, event: 'connecting again' }) });
  })
  .on('close', () => process.exit(0));
