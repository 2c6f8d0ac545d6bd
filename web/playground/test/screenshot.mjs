// Takes the picture of the README: the reference query with its answer.
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Playground, startBrowser, startNetra } from './netra.mjs';

const file = fileURLToPath(new URL('../../../docs/playground.png', import.meta.url));

const netra = await startNetra();
const browser = await startBrowser();
try {
  const page = await browser.newPage({ viewport: { width: 1440, height: 860 }, colorScheme: 'light' });
  const playground = new Playground(page);
  await playground.open(netra.url);
  await playground.signIn('alice@example.com');
  await playground.openTab('Viewer');
  await playground.run();
  await page.locator('.graphiql-spinner').waitFor({ state: 'detached' });
  await mkdir(new URL('../../../docs/', import.meta.url), { recursive: true });
  await page.screenshot({ path: process.argv[2] ?? file });
} finally {
  await browser.close();
  await netra.stop();
}
