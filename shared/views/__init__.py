"""What operators ask of Redis, as frozen rows: queues, workers, tasks, runs, the server. Only reads; judges nothing."""
