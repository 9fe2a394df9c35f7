"""Tables, curves, leaderboard and HTML page: reads results, runs nothing."""
