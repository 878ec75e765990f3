"""References of Responses requests to stored responses: ids, item references and stored items."""
