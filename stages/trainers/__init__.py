"""TRL's trainers with losses it lacks. Importing a module here imports torch and TRL: do it where one trains."""
