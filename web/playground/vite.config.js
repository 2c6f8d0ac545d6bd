import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const server = process.env.NETRA_PLAYGROUND_URL ?? 'http://127.0.0.1:8080';

export default defineConfig({
  resolve: {
    // The live client is compiled from its source, with the packages of this directory: its own need not be installed.
    alias: { 'netra-client': fileURLToPath(new URL('../client/src/index.ts', import.meta.url)) },
    dedupe: ['graphql-ws'],
  },
  build: {
    // Monaco alone is larger than Vite's default limit of 500 kB.
    chunkSizeWarningLimit: 8192,
    rolldownOptions: {
      // GraphiQL makes the accessible names of its icons from the names of its functions.
      output: { keepNames: true },
      // Libraries mark modules "use client" for server-side rendering, which there is none of here.
      onwarn(warning, warn) {
        if (warning.code !== 'MODULE_LEVEL_DIRECTIVE') warn(warning);
      },
    },
  },
  worker: { format: 'es' },
  server: {
    // `npm run dev` serves only the page; the API is that of a running netra.
    proxy: {
      '/graphql': { target: server, ws: true },
      '/playground/config.json': server,
      '/readyz': server,
    },
  },
});
