/** One file of ../examples with the variables beside it. */
export interface Example {
  title: string;
  query: string;
  variables: string | null;
}

const queries = import.meta.glob<string>('../examples/*.graphql', { query: '?raw', import: 'default', eager: true });
const variables = import.meta.glob<string>('../examples/*.json', { query: '?raw', import: 'default', eager: true });

/** Sorted by file name. The first comment line of a file is its title. */
export const examples: Example[] = Object.keys(queries)
  .sort()
  .map((path) => {
    const query = queries[path] ?? '';
    return {
      title: query.match(/^# *(.+)/)?.[1] ?? path,
      query,
      variables: fillDates(variables[path.replace(/\.graphql$/, '.json')]),
    };
  });

/** Turns `{{-7 days}}` into the instant seven days before now. The Go side does the same. */
function fillDates(text: string | undefined): string | null {
  if (text === undefined) return null;
  return text.replace(/\{\{(-?\d+) days\}\}/g, (_, days: string) => new Date(Date.now() + Number(days) * 86_400_000).toISOString());
}
