"""The runner: a plan of runs, resumed where it stopped; engines that compute them; one report each."""
