/**
 * Gives the token to connect with. `fresh` says that the last one was refused or is about to end: a kept one will not do. `null` says that
 * nobody is signed in any more, which ends all subscriptions. When it fails it is asked again.
 */
export type TokenSource = (options: { fresh: boolean }) => string | null | Promise<string | null>;

const longest = 2 ** 31 - 1; // a timer's, in ms
const again = 5_000; // after a renewal that did not work, in ms

/** The token of one connection, renewed while the connection lasts. */
export class Tokens {
  readonly #source: TokenSource;
  readonly #present: (token: string) => boolean;
  #refused = false;
  #connected = false;
  #presented: string | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** present sends a token over the open connection; false where there is none. */
  constructor(source: TokenSource, present: (token: string) => boolean) {
    this.#source = source;
    this.#present = present;
  }

  /** The token to connect with. */
  async get(): Promise<string | null> {
    const token = await this.#source({ fresh: this.#refused });
    this.#presented = token ?? undefined;
    return token;
  }

  /** The server took the token that was presented last. */
  accepted(): void {
    this.#refused = false;
    this.#connected = true;
    const left = this.#presented === undefined ? undefined : lifetime(this.#presented);
    if (left !== undefined) this.#renewIn(left * (0.6 + Math.random() * 0.2));
  }

  /** The server has answered a token that was presented over the open connection. */
  answered(payload: Record<string, unknown>): void {
    if (payload['authorized'] === true) this.accepted();
    else this.#renewIn(again * (0.5 + Math.random()));
  }

  disconnected(refused: boolean): void {
    this.dispose();
    if (refused) this.#refused = true;
  }

  dispose(): void {
    this.#connected = false;
    clearTimeout(this.#timer);
  }

  #renewIn(milliseconds: number): void {
    clearTimeout(this.#timer);
    if (!this.#connected) return;
    this.#timer = setTimeout(() => void this.renew(), Math.min(milliseconds, longest));
  }

  /** Presents a fresh token over the open connection. Never rejects: what fails is done again. */
  async renew(): Promise<void> {
    clearTimeout(this.#timer);
    try {
      const token = await this.#source({ fresh: true });
      if (token === null) return; // the server ends the connection with the token, and the next one hears of the sign-out
      this.#presented = token;
      this.#present(token);
    } catch {
      this.#renewIn(again * (0.5 + Math.random()));
    }
  }
}

/** How long a JWT is good, in ms; undefined for another kind of token. A wrong clock makes it no longer than it was from the beginning. */
function lifetime(token: string): number | undefined {
  try {
    const payload = token.split('.')[1] ?? '';
    const { exp, iat } = JSON.parse(atob(payload.replaceAll('-', '+').replaceAll('_', '/'))) as { exp?: number; iat?: number };
    if (typeof exp !== 'number') return undefined;
    const left = exp * 1000 - Date.now();
    return Math.max(1000, typeof iat === 'number' ? Math.min(left, (exp - iat) * 1000) : left);
  } catch {
    return undefined;
  }
}
