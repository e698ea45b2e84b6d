"""The tracker behind two verbs, initialize and track, and the engine that runs its network."""
