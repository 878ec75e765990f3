"""What follow-up requests of the Responses API refer to: ids, references and kept items."""
