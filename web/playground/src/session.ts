import { createGraphiQLFetcher, type Fetcher } from '@graphiql/toolkit';
import type { GraphQLFormattedError } from 'graphql';
import type { Client } from 'graphql-ws';
import { createLive, type Live, type LiveError, type Status } from 'netra-client';

const path = '/graphql';

/** A developer who restarts the server is looking at the page, and there is no herd: the waits stay short. */
const maxWait = 2_000;

/** Where the subscription is, for the header. */
export interface LiveState {
  status: Status;
  /** The server has ended the token, and the subscription waits for another. */
  tokenEnded: boolean;
  /** The cursor had expired: changes were lost before the state that the stream went on with. */
  missed: boolean;
}

const idle: LiveState = { status: 'offline', tokenEnded: false, missed: false };

/** Gives a newer token of whoever is signed in; an empty one when they are no longer. */
export type Renewal = () => Promise<string>;

/** Speaks to the API over HTTP and websocket as one user at a time; as nobody until someone signs in. */
export class Session {
  #token = '';
  #renewal: Renewal | undefined;
  #live: Live;
  #state = idle;
  readonly #watchers = new Set<() => void>();
  /** Ends the waits for a token that only the developer can give. */
  readonly #waits = new Set<() => void>();

  /** Stays the same function when the user changes, so that GraphiQL keeps its schema and its docs pane. */
  readonly fetcher: Fetcher;

  constructor() {
    this.#live = this.#connect();
    // Of a client the toolkit needs no more than how to subscribe.
    const wsClient = { subscribe: (...[payload, sink]) => this.#subscribe(payload, sink) } as Pick<Client, 'subscribe'> as Client;
    const send = createGraphiQLFetcher({ url: path, wsClient });
    this.fetcher = (params, options) => send(params, { ...options, headers: { ...this.#headers(), ...options?.headers } });
  }

  /**
   * Makes every later operation one of the token's owner; an empty token is nobody. A subscription goes on with a newer token of the same
   * owner; those of another end, rather than go on as the user before. Without a renewal a token that has ended is replaced by signing in.
   */
  signIn(token: string, renewal?: Renewal): void {
    const stays = sameOwner(token, this.#token);
    this.#token = token;
    this.#renewal = renewal;
    if (!stays) {
      this.#waits.clear();
      this.#live.dispose();
      this.#live = this.#connect();
    } else if (this.#waits.size > 0) {
      for (const end of this.#waits) end();
    } else {
      this.#live.renewToken();
    }
  }

  /** Calls back after each change of the state, until what it returns is called. */
  readonly watch = (changed: () => void): (() => void) => {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  };

  readonly state = (): LiveState => this.#state;

  #become(change: Partial<LiveState>): void {
    this.#state = { ...this.#state, ...change };
    for (const changed of this.#watchers) changed();
  }

  #headers(): Record<string, string> {
    return this.#token ? { authorization: `Bearer ${this.#token}` } : {};
  }

  /** The connection of whoever is signed in, which is opened by the first subscription. */
  #connect(): Live {
    this.#become(idle);
    let given: string | undefined;
    let accepted = false;
    const live: Live = createLive({
      url: new URL(path, location.href.replace(/^http/, 'ws')).href,
      maxWait,
      token: async ({ fresh }) => {
        if (fresh && this.#token === given) {
          const renewal = this.#renewal;
          if (renewal) {
            const newer = await renewal();
            if (this.#renewal !== renewal) return null; // somebody else has signed in
            this.#token = newer;
          } else if (accepted) {
            await this.#anotherToken();
          } else {
            return null;
          }
        }
        given = this.#token;
        return given || null;
      },
      onStatus: (status) => {
        if (this.#live !== live) return; // the connection of the user before says goodbye
        accepted ||= status === 'connected';
        this.#become({ status });
      },
    });
    return live;
  }

  async #anotherToken(): Promise<void> {
    if (this.#live.status() !== 'connected') this.#become({ tokenEnded: true });
    await new Promise<void>((resolve) => this.#waits.add(resolve));
    this.#waits.clear(); // all end together
    this.#become({ tokenEnded: false });
  }

  #subscribe(...[payload, sink]: Parameters<Client['subscribe']>): () => void {
    this.#become({ missed: false });
    return this.#live.subscribe(
      {
        query: payload.query,
        ...(payload.operationName ? { operationName: payload.operationName } : {}),
        ...(payload.variables ? { variables: payload.variables } : {}),
      },
      {
        next: (_, result) => sink.next(result as never),
        onExpired: () => this.#become({ missed: true }),
        // The error is the last answer. The toolkit would leave a rejected promise behind for one, which the browser reports as uncaught.
        onError: (error) => {
          sink.next({ errors: this.#errorsOf(error) as never });
          sink.complete();
        },
        onComplete: () => sink.complete(),
      },
    );
  }

  #errorsOf({ code, errors, message }: LiveError): readonly GraphQLFormattedError[] {
    if (errors.length > 0) return errors as readonly GraphQLFormattedError[];
    if (code !== 'SIGNED_OUT') return [{ message, extensions: { code } }];
    // As the server says it of a query.
    return [{ message: this.#token ? 'the server refuses the bearer token' : 'nobody is signed in', extensions: { code: 'UNAUTHENTICATED' } }];
  }
}

/** Whether two tokens say that they are of one user. */
export function sameOwner(a: string, b: string): boolean {
  return ownerOf(a) === ownerOf(b);
}

/** The user whom a JWT names; another kind of token stands for itself. */
function ownerOf(token: string): string {
  try {
    const { sub } = JSON.parse(atob((token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/'))) as { sub?: string };
    return sub ?? token;
  } catch {
    return token;
  }
}
