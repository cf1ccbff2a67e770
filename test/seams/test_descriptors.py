"""How a process raises its limit on descriptors, and knows how full it is: in processes of their own."""


def test_the_limit_is_raised_to_the_hard_one(run):
    run(
        code="""
        import resource
        from crossbar_cluster.node.descriptors import limit, raise_limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 400))
        assert raise_limit() == limit() == 400
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (400, 400)
        assert raise_limit() == 400
        """
    )


def test_it_knows_how_full_it_is(run):
    run(
        code="""
        import os, resource
        from crossbar_cluster.node.descriptors import budget, lowest_free, shortage, used
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        assert not shortage() and used() < 50
        opened = []
        while lowest_free() < budget().acceptable:
            opened.append(os.open(os.devnull, os.O_RDONLY))
        assert shortage() and "256" in shortage()[0]
        os.close(opened.pop(len(opened) // 2))
        os.close(opened.pop(len(opened) // 2))
        assert not shortage()
        while lowest_free() < 256:
            opened.append(os.open(os.devnull, os.O_RDONLY))
        assert lowest_free() == 256 and used() == 256, "and neither fails"
        """
    )
