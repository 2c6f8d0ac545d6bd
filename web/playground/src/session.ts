import { createGraphiQLFetcher, type Fetcher } from '@graphiql/toolkit';
import type { GraphQLFormattedError } from 'graphql';
import { CloseCode, createClient, type Client } from 'graphql-ws';

const path = '/graphql';

/** Speaks to the API over HTTP and websocket as one user at a time; as nobody until someone signs in. */
export class Session {
  #socket: Client;
  #send: Fetcher;

  constructor() {
    [this.#socket, this.#send] = connect('');
  }

  /** Stays the same function when the user changes, so that GraphiQL keeps its schema and its docs pane. */
  readonly fetcher: Fetcher = (params, options) => this.#send(params, options);

  /**
   * Makes every later operation one of the token's owner; an empty token is nobody. A websocket is authenticated once, when
   * it opens, so the old one is closed: its subscriptions end rather than go on as the user before.
   */
  signIn(token: string): void {
    // A socket that never opened rejects here; whoever subscribed over it has been told already.
    Promise.resolve(this.#socket.dispose()).catch(() => {});
    [this.#socket, this.#send] = connect(token);
  }
}

function connect(token: string): [Client, Fetcher] {
  const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {};
  const socket = createClient({
    url: new URL(path, location.href.replace(/^http/, 'ws')).href,
    connectionParams: headers,
    // Whoever was refused once is refused again; anything else, such as a restart of the server, is worth another try.
    shouldRetry: (reason) => reason instanceof CloseEvent && reason.code !== CloseCode.Forbidden,
  });
  return [socket, createGraphiQLFetcher({ url: path, headers, wsClient: answering(socket) })];
}

/**
 * Makes the end of a subscription by an error its last answer. The toolkit would leave a rejected promise behind for it, which
 * the browser reports as uncaught.
 */
function answering(socket: Client): Client {
  return {
    ...socket,
    subscribe: (payload, sink) =>
      socket.subscribe(payload, {
        ...sink,
        error(reason) {
          sink.next({ errors: errorsOf(reason) });
          sink.complete();
        },
      }),
  };
}

function errorsOf(reason: unknown): readonly GraphQLFormattedError[] {
  if (Array.isArray(reason)) return reason;
  if (reason instanceof CloseEvent) return [{ message: `the socket was closed: ${reason.code} ${reason.reason}`.trim() }];
  return [{ message: reason instanceof Error ? reason.message : String(reason) }];
}
