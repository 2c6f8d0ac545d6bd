// Asks one query with a stock client for the server's tests: node client.mjs LIBRARY URL TOKEN QUERY
// Each line on standard output is a result as the library gave it to whoever asked. Everything is as the library has it by default.
import { ApolloClient, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { Defer20220824Handler } from '@apollo/client/incremental';
import { createGraphiQLFetcher } from '@graphiql/toolkit';
import { Client, fetchExchange } from '@urql/core';

const [library, url, token, query] = process.argv.slice(2);
const headers = { authorization: `Bearer ${token}` };
const tell = ({ data, error, errors }) => console.log(JSON.stringify({ data, error: (error ?? errors?.[0])?.message }));

const libraries = {
  apollo() {
    const client = new ApolloClient({
      link: new HttpLink({ uri: url, headers }),
      cache: new InMemoryCache(),
      incrementalHandler: new Defer20220824Handler(),
    });
    client.watchQuery({ query: gql(query), errorPolicy: 'all' }).subscribe((result) => {
      if (result.data) tell(result);
      if (!result.loading && result.dataState === 'complete') client.stop();
    });
  },
  urql() {
    new Client({ url, fetchOptions: { headers }, exchanges: [fetchExchange], preferGetMethod: false }).query(query, {}).subscribe(tell);
  },
  async graphiql() {
    const fetcher = createGraphiQLFetcher({ url, headers, fetch });
    for await (const results of await fetcher({ query })) {
      for (const result of [results].flat()) console.log(JSON.stringify(result));
    }
  },
};

await libraries[library]();
