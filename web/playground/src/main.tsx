import '@graphiql/plugin-explorer/style.css';
import 'graphiql/style.css';
import './style.css';
import './workers';
import { createRoot } from 'react-dom/client';
import { App } from './app';
import { loadConfig } from './config';
import { Session } from './session';

const root = createRoot(document.getElementById('root')!);
try {
  root.render(<App config={await loadConfig()} session={new Session()} />);
} catch (error) {
  root.render(
    <p role="alert" className="failure">
      The playground could not start: {error instanceof Error ? error.message : String(error)}
    </p>,
  );
}
