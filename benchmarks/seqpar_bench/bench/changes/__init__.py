"""What changed between two runs, beyond the noise: `judgement` judges rows by the `noise` of both runs and the machine's drift;
`differences` are those of machines and versions; `comparison` tells it as text."""
