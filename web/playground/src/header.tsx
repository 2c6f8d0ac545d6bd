import { DOC_EXPLORER_PLUGIN } from '@graphiql/plugin-doc-explorer';
import { useGraphiQL, useGraphiQLActions } from '@graphiql/react';
import type { Config } from './config';
import { HealthDot } from './health';
import { LiveStatus } from './live';
import { sameOwner, type Session } from './session';

interface HeaderProps {
  config: Config;
  session: Session;
  /** The e-mail address of the demo user, or empty when signed out. */
  email: string;
  /** The bearer token pasted where there are no demo users. */
  token: string;
  onUser(email: string): void;
  onToken(token: string): void;
}

export function Header({ config, session, email, token, onUser, onToken }: HeaderProps) {
  const { setVisiblePlugin, stop } = useGraphiQLActions();
  const responseEditor = useGraphiQL((state) => state.responseEditor);

  // What one user was shown does not stay on screen under the name of another.
  function leave() {
    stop();
    responseEditor?.setValue('');
  }

  function changeUser(next: string) {
    leave();
    onUser(next);
  }

  function changeToken(next: string) {
    if (!sameOwner(next, token)) leave();
    onToken(next);
  }

  return (
    <header className="bar">
      <h1>Netra</h1>
      <HealthDot />
      <LiveStatus session={session} />
      <button type="button" className="bar-docs" onClick={() => setVisiblePlugin(DOC_EXPLORER_PLUGIN)}>
        Schema docs
      </button>
      {config.dev ? (
        <label className="bar-identity">
          <span>Signed in as</span>
          <select value={email} onChange={(event) => changeUser(event.target.value)}>
            <option value="">signed out</option>
            {config.users.map((user) => (
              <option key={user.email} value={user.email}>
                {user.superuser ? `${user.email} (superuser)` : user.email}
              </option>
            ))}
          </select>
        </label>
      ) : (
        <label className="bar-identity">
          <span>Bearer token</span>
          <input
            type="password"
            autoComplete="off"
            spellCheck={false}
            placeholder="paste a token"
            value={token}
            onChange={(event) => changeToken(event.target.value.trim())}
          />
        </label>
      )}
    </header>
  );
}
