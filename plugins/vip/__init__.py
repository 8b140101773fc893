"""``<vip>``, the virtual addresses: what farm and mirror share of them."""
