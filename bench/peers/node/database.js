import pg from "pg";

// Pipelining sends statements without waiting for the answers of those before them, as our own driver does.
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10, pipeline: true });

const setViewer = {
  name: "set_viewer",
  text: "SELECT set_config('netra.user_id', $1, false), set_config('netra.superuser', 'off', false)",
};

// Rows of a prepared statement under row-level security. The viewer goes along in the same round trip, and is set anew whenever a connection
// is taken from the pool.
export async function rows(viewer, name, text, values) {
  const client = await pool.connect();
  let failure;
  try {
    const [, result] = await Promise.all([client.query({ ...setViewer, values: [String(viewer)] }), client.query({ name, text, values })]);
    return result.rows;
  } catch (error) {
    failure = error;
    throw error;
  } finally {
    client.release(failure);
  }
}
