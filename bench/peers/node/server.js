// Runs one of the peers, a process for each core behind one port, and prints where it listens.
import cluster from "node:cluster";
import { availableParallelism } from "node:os";

const peer = process.argv[2];

if (cluster.isPrimary) {
  let waiting = availableParallelism();
  for (let i = waiting; i > 0; i--) cluster.fork();
  cluster.on("listening", (_, { port }) => {
    if (--waiting === 0) console.log(`http://127.0.0.1:${port}`);
  });
  cluster.on("exit", (_, code) => process.exit(code ?? 0));
  process.on("SIGTERM", () => process.exit(0)); // the workers end when their channel closes
} else {
  const { listen } = await import(`./${peer}.js`);
  // Port 0 is the same port in all workers.
  await listen({ host: "127.0.0.1", port: 0 });
}
