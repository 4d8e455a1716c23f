"""One file a verb: what joins the rooms. `freezeframe.train(...)` and the command line call the same functions."""
