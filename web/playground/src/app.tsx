import { DOC_EXPLORER_PLUGIN, DocExplorerStore } from '@graphiql/plugin-doc-explorer';
import { explorerPlugin } from '@graphiql/plugin-explorer';
import { HISTORY_PLUGIN, HistoryStore } from '@graphiql/plugin-history';
import { GraphiQLProvider } from '@graphiql/react';
import { GraphiQLInterface } from 'graphiql';
import { useEffect, useState } from 'react';
import { loadConfig, type Config } from './config';
import { examples } from './examples';
import { examplesPlugin } from './examples-plugin';
import { Header } from './header';
import type { Session } from './session';

const plugins = [DOC_EXPLORER_PLUGIN, HISTORY_PLUGIN, explorerPlugin(), examplesPlugin];

// The choice survives a reload; a pasted token, being a secret, lives only as long as the page.
const userKey = 'netra:user';

export function App({ config, session }: { config: Config; session: Session }) {
  const [email, setEmail] = useState(() => rememberedUser(config));
  const [token, setToken] = useState('');

  useEffect(() => {
    if (config.dev) session.signIn(tokenOf(config, email), async () => tokenOf(await loadConfig(), email));
    else session.signIn(token);
  }, [session, config, email, token]);

  function chooseUser(next: string) {
    localStorage.setItem(userKey, next);
    setEmail(next);
  }

  return (
    <GraphiQLProvider
      fetcher={session.fetcher}
      plugins={plugins}
      referencePlugin={DOC_EXPLORER_PLUGIN}
      defaultTabs={examples}
      schemaDescription
      inputValueDeprecation
    >
      <HistoryStore>
        <DocExplorerStore>
          <Header config={config} session={session} email={email} token={token} onUser={chooseUser} onToken={setToken} />
          <main>
            <GraphiQLInterface defaultEditorToolsVisibility="variables" showPersistHeadersSettings={false} />
          </main>
        </DocExplorerStore>
      </HistoryStore>
    </GraphiQLProvider>
  );
}

/** The token that the server offers for a demo user; empty when it offers none. */
function tokenOf({ users }: Config, email: string): string {
  return users.find((user) => user.email === email)?.token ?? '';
}

/** The user chosen before, if still offered; otherwise the first one, so that the first example has an answer. */
function rememberedUser(config: Config): string {
  const remembered = localStorage.getItem(userKey);
  const known = remembered === '' || config.users.some((user) => user.email === remembered);
  return known && remembered !== null ? remembered : (config.users[0]?.email ?? '');
}
