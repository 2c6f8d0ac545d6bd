// Runs the stock client of the older protocol, subscriptions-transport-ws, for the server's tests: node older.mjs URL TOKEN
// It reads and writes the same lines as client.mjs. Everything is as Apollo Client 2 and 3 had it: it reconnects for ever.
import { createInterface } from 'node:readline';
import transport from 'subscriptions-transport-ws';
import { WebSocket } from 'ws';

const [url, token] = process.argv.slice(2);
const tell = (what) => console.log(JSON.stringify(what));

const client = new transport.SubscriptionClient(url, {
  reconnect: true,
  connectionParams: () => ({ authorization: `Bearer ${token}` }),
  connectionCallback: (refused) => refused && tell({ event: 'refused', code: refused.extensions?.code }),
}, WebSocket);
for (const event of ['connected', 'reconnected', 'disconnected']) client.on(event, () => tell({ event }));
client.on('error', () => {}); // while nobody listens

const subscriptions = {};

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { id, query, variables, dispose } = JSON.parse(line);
    if (dispose) {
      subscriptions[dispose].unsubscribe();
      return;
    }
    subscriptions[id] = client.request({ query, variables }).subscribe({
      next: (result) => tell({ id, next: result }),
      error: (error) => tell({ id, error: error.extensions?.code }),
      complete: () => tell({ id, complete: true }),
    });
  })
  .on('close', () => process.exit(0));
