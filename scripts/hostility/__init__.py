"""What a hostile world can do, a module a subject: each tries so many things, and tallies what became of them."""
