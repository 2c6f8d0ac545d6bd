/** A demo user that the server offers in development. */
export interface User {
  email: string;
  name: string;
  superuser: boolean;
  token: string;
}

/** What the server says about itself. In production there are no users and `dev` is false. */
export interface Config {
  users: User[];
  dev: boolean;
}

export async function loadConfig(): Promise<Config> {
  const response = await fetch('/playground/config.json');
  if (!response.ok) throw new Error(`the server answered ${response.status} for its configuration`);
  return response.json() as Promise<Config>;
}
