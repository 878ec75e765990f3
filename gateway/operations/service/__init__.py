"""Operations on the service itself, as opposed to its accounts."""
