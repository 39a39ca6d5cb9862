"""Tables that the experiments on limits and integrals measure: functions with the numbers that are known of them."""
