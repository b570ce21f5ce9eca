"""permessage-deflate between ours and others: each parameter, both roles, both adapters."""
