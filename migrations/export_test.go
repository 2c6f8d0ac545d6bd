package migrations

import "io/fs"

// Clustered gives tests the files that a cluster gets.
func Clustered(cluster string) (fs.FS, error) {
	directory, err := fs.Sub(files, string(ClickHouse))
	if err != nil {
		return nil, err
	}
	return clustered(directory, cluster)
}
