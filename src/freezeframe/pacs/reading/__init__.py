"""The queue of jobs, and the processes that read studies."""
