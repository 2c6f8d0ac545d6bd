package embedded

// queriesAtOnce bounds the queries that run in the engine at the same time. Further ones wait, for as long as their
// client does.
const queriesAtOnce = 16

// engineConfig holds the server settings of the embedded ClickHouse: a quarter of the machine's memory and never more
// than 4 GiB, few background threads, and the disk space of dropped tables given back at once. The last group keeps
// merges and mutations going in so small a pool, whose defaults expect 32 places.
//
// The engine is given a configuration file even where an argument would do: without one it would read config.xml of
// the working directory, of the user or of /etc/clickhouse-local.
const engineConfig = `<clickhouse>
    <max_server_memory_usage>4294967296</max_server_memory_usage>
    <max_server_memory_usage_to_ram_ratio>0.25</max_server_memory_usage_to_ram_ratio>
    <mark_cache_size>134217728</mark_cache_size>
    <index_mark_cache_size>67108864</index_mark_cache_size>
    <uncompressed_cache_size>0</uncompressed_cache_size>

    <background_pool_size>2</background_pool_size>
    <background_common_pool_size>2</background_common_pool_size>
    <background_schedule_pool_size>4</background_schedule_pool_size>
    <background_fetches_pool_size>1</background_fetches_pool_size>
    <background_move_pool_size>1</background_move_pool_size>
    <database_atomic_delay_before_drop_table_sec>1</database_atomic_delay_before_drop_table_sec>

    <merge_tree>
        <number_of_free_entries_in_pool_to_execute_mutation>1</number_of_free_entries_in_pool_to_execute_mutation>
        <number_of_free_entries_in_pool_to_lower_max_size_of_merge>1</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
        <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>1</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
    </merge_tree>
</clickhouse>
`

// sessionSettings are where every query starts from; a client's own settings come on top.
func sessionSettings() []string {
	return []string{
		"--max_memory_usage=2147483648",
		// A server does not guess that a bare expression is a SELECT; the library does by default.
		"--implicit_select=0",
	}
}
