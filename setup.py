"""Installs with pip and builds with colcon (ament_python)."""

from glob import glob

from setuptools import find_packages, setup

PACKAGE = 'tpf_tracker_ros'
TEST = ['hypothesis>=6.80,<7', 'pytest>=7.4,<10', 'pyyaml>=6.0,<7']

setup(
    name=PACKAGE,
    version='0.1.0',
    description='RGB-thermal single-object tracking for ROS 2',
    maintainer='tpf_tracker_ros maintainers',
    maintainer_email='maintainers@tpf-tracker.example',
    license='Apache-2.0',
    license_files=['LICENSE', 'NOTICE'],
    python_requires='>=3.10',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={
        f'{PACKAGE}.console': ['page/*'],
        f'{PACKAGE}.data': ['park/*'],
        f'{PACKAGE}.models.layers': ['*.c'],
        f'{PACKAGE}.models': ['weights/*.safetensors', 'weights/*.md'],
        f'{PACKAGE}.training': ['experiments/*.toml'],
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        (f'share/{PACKAGE}/launch', glob('launch/*.launch.py')),
        (f'share/{PACKAGE}/config', glob('config/*')),
    ],
    zip_safe=False,
    install_requires=[
        'apsw>=3.40',
        'av>=14,<19',
        "backports.zstd>=1.0,<2; python_version < '3.14'",
        'click>=8.0,<9',
        'lz4>=4.0,<5',
        'matplotlib>=3.7,<4',
        'numpy>=1.23,<3',
        'opencv-python-headless>=4.9,<5',
        'rosbags>=0.11,<0.12',
        'ruamel.yaml>=0.17,<1',
        'safetensors>=0.4,<1',
        'torch>=2.4,<3',
        'tqdm>=4.64,<5',
    ],
    extras_require={
        # For a Python without a ROS 2 installation; vision_msgs is compiled by the package itself.
        'ros': [
            'ros-rclpy[fastrtps]>=9.1,<9.2',
            'ros-diagnostic-msgs>=5.5,<5.6',
            'ros-geometry-msgs>=5.5,<5.6',
            'ros-lifecycle-msgs>=2.3,<2.4',
            'ros-rcl-interfaces>=2.3,<2.4',
            'ros-rosgraph-msgs>=2.3,<2.4',
            'ros-sensor-msgs>=5.5,<5.6',
            'ros-std-msgs>=5.5,<5.6',
            'ros-std-srvs>=5.5,<5.6',
            'ros-visualization-msgs>=5.5,<5.6',
            'lark-parser>=0.12,<0.13',  # lark 1.x would overwrite the one that rosidl needs
        ],
        'console': ['aiohttp>=3.8,<4'],
        'cluster': ['ray>=2.9,<3'],  # tpf run --ray
        'train': ['tensorboard>=2.14,<3', "tomli>=2.0,<3; python_version < '3.11'"],
        'onnx': ['onnx>=1.16,<2', 'onnxruntime>=1.18,<2', 'onnxscript>=0.5'],
        'test': TEST,  # the name that `colcon test` looks for
        'dev': [*TEST, 'pytest-xdist>=3.5,<4', 'ruff>=0.17,<0.18', 'selenium>=4.20,<5'],
        # The linters of a ROS 2 installation.
        'lint': [
            'ros-ament-flake8>=0.19,<0.20',
            'ros-ament-pep257>=0.19,<0.20',
            'flake8>=7.0,<8',
            'flake8-builtins',
            'flake8-comprehensions',
            'flake8-docstrings',
            'flake8-import-order',
            'flake8-quotes',
        ],
    },
    entry_points={
        'console_scripts': [
            f'console = {PACKAGE}.console.__main__:main',
            f'tpf = {PACKAGE}.cli:main',
            f'tracker = {PACKAGE}.ros.__main__:main',
        ],
    },
)
